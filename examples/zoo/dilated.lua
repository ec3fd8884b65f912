-- Dilated causal attention: every third key.
-- Child et al., "Generating Long Sequences with Sparse Transformers", 2019.
local qn = require "quern"
return qn.attention { name = "dilated", mask = qn.causal & qn.dilated(3) }
