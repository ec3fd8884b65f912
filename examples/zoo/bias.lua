-- An additive table of scores, one a head.
-- Raffel et al., "Exploring the Limits of Transfer Learning", 2020, section 2.1.
local qn = require "quern"
local T = qn.tensor("T", "f32", { "Hq", "Nq", "Nk" })

return qn.attention { name = "bias", score = qn.bias(T), position = qn.rows }
