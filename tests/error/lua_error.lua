local qn = require "quern"
local x = nothing.y -- error: E-LUA attempt to index a nil value (global 'nothing')
return qn.attention {}
-- help: a spec sees assert error ipairs pairs pcall require select s
