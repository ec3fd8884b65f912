local qn = require "quern"
local x = qn.tensor("x", "f32", { "Nk*" }) -- error: E-DIM 'Nk*' is no dimension
return qn.attention { score = function(s, b, h, i, j) return s + x[0] end }
-- help: a name (B Hq Hk Hv Nq Nk D Dv or your own), a number, or nam
