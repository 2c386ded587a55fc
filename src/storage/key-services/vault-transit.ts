/** HashiCorp Vault's transit engine as a key service: the named key never leaves Vault. */
import type { Secret } from "../../base/observe.js";
import type { KeyService } from "../key-service.js";
import { postJson, serviceUrl, textField } from "./request.js";

export interface VaultTransitOptions {
  /** Such as `https://vault.example.org:8200`. */
  readonly address: string;
  /** Name of the transit key. */
  readonly key: string;
  /** Where the engine is mounted; default `transit`. */
  readonly mount?: string | undefined;
  readonly namespace?: string | undefined;
  readonly token: Secret;
  /** PEM. */
  readonly ca?: string | undefined;
}

export function vaultTransit(options: VaultTransitOptions): KeyService {
  const address = serviceUrl(options.address);
  const call = async (action: string, fields: object, signal: AbortSignal): Promise<unknown> => {
    const { mount = "transit", namespace, key } = options;
    const path = [...mount.split("/"), action, key].map(encodeURIComponent).join("/");
    const headers = {
      ...{ "content-type": "application/json", "x-vault-request": "true", "x-vault-token": options.token.reveal() },
      ...(namespace === undefined ? {} : { "x-vault-namespace": namespace }),
    };
    const order = { url: new URL(`/v1/${path}`, address), headers, body: JSON.stringify(fields), ca: options.ca };
    return (await postJson(order, signal))["data"];
  };
  return {
    name: "vault-transit",
    // The slot binds the repository itself; transit's own `associated_data` is missing in older versions.
    async wrap(plain, _context, signal) {
      return textField(
        await call("encrypt", { plaintext: Buffer.from(plain).toString("base64") }, signal),
        "ciphertext",
      );
    },
    async unwrap(wrapped, _context, signal) {
      return Buffer.from(textField(await call("decrypt", { ciphertext: wrapped }, signal), "plaintext"), "base64");
    },
  };
}
