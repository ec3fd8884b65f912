local qn = require "quern"
local x = qn.tensor("k", "f32", { "Hq" }) -- error: E-NAME 'k' is a name of quern's own
return qn.attention { score = function(s, b, h, i, j) return s + x[h] end }
-- help: call it k_ or the like
