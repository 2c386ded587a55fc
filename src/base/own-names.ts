/** Names of folders that holdfast makes in other people's file systems, which the watcher and the walker skip. */

/** Names of folders with links to protected files begin so (recovery/pin-folder.ts); the user's number follows. */
export const PIN_FOLDER_PREFIX = ".holdfast-pins-";
