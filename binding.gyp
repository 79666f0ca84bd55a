{
  # The same addon for people who build with node-gyp. Not published, and "gypfile": false keeps npm from running it by itself:
  # CMakeLists.txt is the build. Both read their sources from sources.gypi.
  "includes": ["sources.gypi"],
  "targets": [{
    "target_name": "banyan",
    "sources": ["<@(base_sources)", "<@(cpu_sources)", "<@(no_cuda_sources)", "<@(model_sources)", "<@(engine_sources)", "<@(addon_sources)"],
    "include_dirs": ["cpp", "<!(node -p \"require('node-addon-api').include_dir\")"],
    "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS", "NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED", "NODE_ADDON_API_DISABLE_DEPRECATED"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
    "cflags_cc": ["-std=c++20", "-O3", "-ffp-contract=off"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_ENABLE_CPP_RTTI": "YES",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
      "OTHER_CPLUSPLUSFLAGS": ["-ffp-contract=off"]
    },
    "msvs_settings": {
      "VCCLCompilerTool": { "ExceptionHandling": 1, "RuntimeTypeInfo": "true", "AdditionalOptions": ["/std:c++20", "/utf-8"] }
    }
  }]
}
