-- Sliding window: the last W keys, the token itself counted.
-- Beltagy, Peters, Cohan, "Longformer", 2020; Jiang et al., "Mistral 7B", 2023.
local qn = require "quern"
local W = qn.param("window", "i32", 64)

return qn.attention { name = "window", mask = qn.causal & qn.window(W) }
