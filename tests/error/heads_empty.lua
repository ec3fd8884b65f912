local qn = require "quern"
return qn.attention {
  heads = {}, -- error at 0: E-HEADS 'heads' is a list of 1 to 64 groups
}
