return 'a
