-- Prefix language model: a prefix that all see, causal behind it.
-- Raffel et al., "Exploring the Limits of Transfer Learning", 2020, section 3.2.1.
local qn = require "quern"
local P = qn.param("P", "i32", 20)

return qn.attention { name = "prefix_lm", mask = qn.causal | qn.prefix(P) }
