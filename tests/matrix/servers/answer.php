<?php header("Content-Type: text/plain"); echo "pid=" . getmypid() . "\n";
