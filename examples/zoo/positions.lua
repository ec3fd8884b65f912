-- Positions from a tensor: rows stand where `pos` says.
-- The tree attention of Cai et al., "Medusa", 2024, gives each candidate such a position.
local qn = require "quern"
local pos = qn.tensor("pos", "i32", { "Nq" }, { sample = { 0, 40 } })

return qn.attention { name = "positions", position = pos, mask = qn.causal }
