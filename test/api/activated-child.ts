/** A process that was given a listening socket as descriptor 3, as a service manager does; ends when stdin closes. */
import { startServer } from "./api-server.js";

const served = await startServer(process.argv[2] ?? "", { activatedFd: 3 });
process.stdout.write("ready\n");
process.stdin.resume();
process.stdin.once("end", () => void served[Symbol.asyncDispose]());
