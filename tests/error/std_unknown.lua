local qn = require "quern"
return qn.attention {
  mask = qn.casual, -- error: E-NAME qn has no 'casual'
}
-- help: did you mean causal?
