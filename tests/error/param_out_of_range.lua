local qn = require "quern"
local c = qn.param("c", "u8", 300) -- error: E-DTYPE the default of 'c' is out of the range of u8
return qn.attention { score = function(s, b, h, i, j) return s + c end }
