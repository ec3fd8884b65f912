local qn = require "quern"
local = 3 -- error: E-SYNTAX <name> expected near '='
return qn.attention {}
