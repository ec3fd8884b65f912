local qn = require "quern"
return qn.attention {
  heads = {
    { mask = qn.causal },
    { mask = true }, -- error at 0: E-HEADS group 1 takes every head: group 2 can never be chosen
  },
}
-- help: when = function(h) .. end, or put it last
