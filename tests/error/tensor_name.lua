local qn = require "quern"
local x = qn.tensor("a b", "f32", { "Hq" }) -- error: E-NAME qn.tensor wants a name of letters, digits and _ as its first argument
return qn.attention {}
-- help: for example "slope"
