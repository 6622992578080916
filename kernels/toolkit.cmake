# The CUDA compiler, by GEOPIXEL_CUDA. Included at the top: a language and its imported targets are known in the folder that
# enables them and below, and kernels and tests both compile CUDA.
set(cuda_found FALSE)
if(NOT GEOPIXEL_CUDA STREQUAL "off")
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual) # Ampere, Hopper, and PTX for what comes after
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(cuda_found TRUE)
  elseif(GEOPIXEL_CUDA STREQUAL "on")
    message(FATAL_ERROR "GEOPIXEL_CUDA=on, but no CUDA compiler was found: put nvcc on PATH or set CUDACXX")
  endif()
endif()
set_property(GLOBAL PROPERTY GP_CUDA_FOUND ${cuda_found})
