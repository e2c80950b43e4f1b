// An HTTP server in Node: `pmx start node_http.js -i max`. All instances share the port, and none of them knows.
'use strict';

const http = require('node:http');

const instance = Number(process.env.NODE_APP_INSTANCE || 0);
const host = process.env.HOST || '127.0.0.1';
const port = Number(process.env.PORT || 8001);

const server = http.createServer((request, response) => {
  console.log(request.method, request.url);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`hello from instance ${instance} (pid ${process.pid})\n`);
});

server.listen(port, host, () => console.log(`listening on http://${host}:${port}`));

// close() takes no new connections, drops idle ones, and calls back when the last request is answered.
function stop() {
  server.close(() => {
    console.log('bye');
    process.exit(0);
  });
}

process.on('SIGTERM', stop);
process.on('SIGINT', stop);
