/** How documents of the API name a path: as text, with its bytes (base64) beside it when it is no UTF-8. */

export interface PathDocument {
  readonly path: string;
  readonly path_b64?: string;
}
