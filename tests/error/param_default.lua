local qn = require "quern"
local c = qn.param("c", "f32", "1") -- error: E-SPEC the default of a parameter is a number, not a string
return qn.attention {}
