<?php

return 'CREATE TABLE orders (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)';
