// Validate GLB files with gltf-validator: node validate.cjs FILE… prints one JSON report per line.
const fs = require("node:fs");
const validator = require("gltf-validator");

(async () => {
  for (const file of process.argv.slice(2)) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)));
    console.log(JSON.stringify(report.issues));
  }
})();
