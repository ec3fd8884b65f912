local qn = require "quern"
local t = qn.tensor("t", "i32", { "Nk" }, { samples = { 0, 3 } }) -- error: E-SAMPLE qn.tensor has no option samples
return qn.attention {}
-- help: { sample = { 0, 7 } }
