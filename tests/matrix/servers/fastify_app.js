const app = require("fastify")();
app.get("/", async () => `pid=${process.pid}\n`);
app.listen({ port: Number(process.env.PORT) });
