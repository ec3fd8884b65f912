-- Full attention: every query sees every key.
-- Vaswani et al., "Attention Is All You Need", 2017.
local qn = require "quern"
return qn.attention { name = "full" }
