-- Cross attention: rows and keys are of different sequences.
-- Vaswani et al., "Attention Is All You Need", 2017, section 3.2.3.
local qn = require "quern"
return qn.attention { name = "cross", position = qn.rows, outputs = { "lse", "max" } }
