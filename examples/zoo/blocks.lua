-- Blocks on the diagonal: tokens see their own block of 16.
-- Qiu et al., "Blockwise Self-Attention for Long Document Understanding", 2020.
local qn = require "quern"
return qn.attention { name = "blocks", mask = qn.blocks(16), position = qn.rows }
