// node's own cluster module: the primary listens, its two workers answer
const cluster = require("node:cluster");
if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  const http = require("node:http");
  http.createServer((_, response) => response.end(`pid=${process.pid}\n`)).listen(process.env.PORT, "127.0.0.1");
}
