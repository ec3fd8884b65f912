local f = function() end return s
