-- Attention sinks: the first four keys and a window.
-- Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2024.
local qn = require "quern"
local W = qn.param("window", "i32", 40)

return qn.attention { name = "sinks_window", mask = qn.causal & (qn.window(W) | qn.sinks(4)) }
