local qn = require "quern"
local x = qn.tensor("x", "f32", { "Hq" })
local y = qn.tensor("x", "f32", { "Nk" }) -- error: E-NAME 'x' is already the name of a tensor
return qn.attention { score = function(s, b, h, i, j) return s + x[h] + y[j] end }
