// node http, on the host of argv[3], or where node listens by itself: [::], both families
const [port, host] = process.argv.slice(2);
require("node:http").createServer((_, response) => response.end(`pid=${process.pid}\n`)).listen(port, host);
