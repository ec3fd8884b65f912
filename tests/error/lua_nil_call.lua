local qn = require "quern"
local x = qn.missing_thing.y -- error: E-NAME qn has no 'missing_thing'
return qn.attention {}
-- help: did you mean sigmoid?
