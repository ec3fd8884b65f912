local qn = require "quern"
return qn.attention {
  norm = qn.norm.softmx, -- error: E-SPEC there is no norm 'softmx'
}
-- help: did you mean softmax?
