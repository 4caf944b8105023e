$INCLUDE @WORLD@/gdnsd/example.com
