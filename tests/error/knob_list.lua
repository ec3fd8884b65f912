local qn = require "quern"
return qn.attention { qn.causal } -- error: E-KNOB qn.attention takes names, not a list (1)
