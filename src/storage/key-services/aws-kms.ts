/** AWS KMS as a key service: `Encrypt` and `Decrypt` of its JSON API, the purpose bound as encryption context. */
import type { Clock } from "../../base/clock.js";
import type { Secret } from "../../base/observe.js";
import type { KeyService } from "../key-service.js";
import { signAws } from "./aws-signature.js";
import { postJson, serviceUrl, textField } from "./request.js";

export interface AwsKmsOptions {
  /** Key id, ARN or `alias/...`. */
  readonly keyId: string;
  readonly region: string;
  /** Default `https://kms.<region>.amazonaws.com`. */
  readonly endpoint?: string | undefined;
  readonly accessKeyId: Secret;
  readonly secretAccessKey: Secret;
  readonly sessionToken?: Secret | undefined;
  /** PEM. */
  readonly ca?: string | undefined;
  readonly clock: Clock;
}

export function awsKms(options: AwsKmsOptions): KeyService {
  const url = serviceUrl(options.endpoint ?? `https://kms.${options.region}.amazonaws.com/`);
  const call = async (action: string, fields: object, signal: AbortSignal): Promise<unknown> => {
    const body = JSON.stringify({ KeyId: options.keyId, ...fields });
    const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": `TrentService.${action}` };
    const place = { method: "POST", url, region: options.region, service: "kms" };
    const signed = signAws({ ...place, headers, body, nowMs: options.clock.nowMs() }, credentialsOf(options));
    return await postJson({ url, headers: signed, body, ca: options.ca }, signal);
  };
  return {
    name: "aws-kms",
    async wrap(plain, context, signal) {
      const fields = { Plaintext: Buffer.from(plain).toString("base64"), EncryptionContext: { holdfast: context } };
      return textField(await call("Encrypt", fields, signal), "CiphertextBlob");
    },
    async unwrap(wrapped, context, signal) {
      const fields = { CiphertextBlob: wrapped, EncryptionContext: { holdfast: context } };
      return Buffer.from(textField(await call("Decrypt", fields, signal), "Plaintext"), "base64");
    },
  };
}

function credentialsOf({ accessKeyId, secretAccessKey, sessionToken }: AwsKmsOptions) {
  return {
    accessKeyId: accessKeyId.reveal(),
    secretAccessKey: secretAccessKey.reveal(),
    sessionToken: sessionToken?.reveal(),
  };
}
