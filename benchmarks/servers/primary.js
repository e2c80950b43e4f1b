// hello.js under node's own cluster module, two workers.
const cluster = require("node:cluster");
cluster.setupPrimary({ exec: `${__dirname}/hello.js` });
cluster.fork();
cluster.fork();
