/** What a promise was rejected with, for tests that expect a failure and look at it. */

/** Waits for the rejection and gives its reason; throws when the promise is fulfilled instead. */
export async function rejection(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("the promise was fulfilled, and a rejection was expected");
}
