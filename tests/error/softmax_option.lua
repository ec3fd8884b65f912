local qn = require "quern"
return qn.attention {
  norm = qn.norm.softmax { sinks = 1.0 }, -- error: E-SPEC softmax has no option 'sinks'
}
-- help: its only option is sink
