/** A worker thread: what the pool asks of it does `serve.ts`. Started by the pool; an entry file of its own. */
import { parentPort, workerData } from "node:worker_threads";
import { systemIo } from "../../storage/file-io.js";
import type { WorkerBirth } from "./protocol.js";
import { serveTasks } from "./serve.js";

if (parentPort !== null) serveTasks(parentPort, workerData as WorkerBirth, systemIo);
