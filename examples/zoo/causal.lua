-- Causal attention: each token sees itself and what came before.
-- Vaswani et al., "Attention Is All You Need", 2017, section 3.2.3.
local qn = require "quern"

return qn.attention { name = "causal", mask = qn.causal }
