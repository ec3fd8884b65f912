local qn = require "quern"
return qn.attention {
  maks = qn.causal, -- error: E-KNOB qn.attention has no knob 'maks'
}
-- help: did you mean mask?
