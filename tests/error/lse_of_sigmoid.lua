local qn = require "quern"
return qn.attention {
  outputs = { "lse" },
  norm = qn.norm.sigmoid, -- error: E-OUTPUT the norm 'sigmoid' has no lse
}
