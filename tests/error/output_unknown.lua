local qn = require "quern"
return qn.attention {
  outputs = { "lsee" }, -- error at 0: E-OUTPUT output 1 is unknown
}
-- help: o, lse, max
