local qn = require "quern"
local cu = qn.tensor("cu", "i32", { "Ndoc+1" })
return { one = qn.attention { mask = qn.document(cu) & qn.causal, norm = qn.norm {
  stat = "max", weight = function(s, m) return qn.exp2(s - m) end,
  rescale = function(a, b) return qn.exp2(a - b) end,
  finish = function(o, l, m) return o / l, m + math.log(l) end } } }
