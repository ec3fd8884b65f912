-- A norm of one's own: weights softplus(s) over their sum, in the stable form.
-- The form w(s) / sum w is that of Katharopoulos et al., "Transformers are RNNs", 2020.
local qn = require "quern"
return qn.attention {
  name = "softplus",
  mask = qn.causal,
  norm = qn.norm {
    weight = function(s) return math.max(s, 0.0) + math.log(1.0 + math.exp(-math.abs(s))) end,
    finish = function(o, l) return o / l end,
  },
}
