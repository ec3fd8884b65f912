local qn = require "quern"
local x = qn.tensor("x", "f32") -- error: E-DIM qn.tensor wants a table of dimensions as its third argument
return qn.attention {}
-- help: { "Hq", "Nk" } or {} with numbers
