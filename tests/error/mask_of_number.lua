local qn = require "quern"
return qn.attention {
  mask = 3, -- error at 0: E-SPEC a mask is a function, a standard mask or a composition, not an integer
}
