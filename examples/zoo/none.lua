-- No normaliser: o = sum s v.
-- Schlag, Irie, Schmidhuber, "Linear Transformers Are Secretly Fast Weight Programmers", 2021.
local qn = require "quern"
return qn.attention { name = "none", norm = qn.norm.none, mask = qn.causal, scale = 0.1 }
