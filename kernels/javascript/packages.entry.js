// What `make` bundles into packages.js.

export { parse } from "acorn";
export { transform } from "sucrase/dist/esm/index.js";
export { parse as tokenize } from "sucrase/dist/esm/parser/index.js";
export { TokenType } from "sucrase/dist/esm/parser/tokenizer/types.js";
export { ContextualKeyword } from "sucrase/dist/esm/parser/tokenizer/keywords.js";
