-- A mixture of heads in one launch: even heads a window, the others dense.
-- Fu et al., "MoA: Mixture of Sparse Attention", 2024 (the pattern; its search is not part of a spec).
local qn = require "quern"
local W = qn.param("window", "i32", 16)

return qn.attention {
  name = "head_mixture",
  heads = {
    { when = function(h) return h % 2 == 0 end, mask = qn.causal & qn.window(W) },
    { mask = qn.causal },
  },
}
