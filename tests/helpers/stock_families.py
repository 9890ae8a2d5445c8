"""One config of each family of detectors, segmentors and backbones that mmdet, mmseg and mmpretrain ship."""

FAMILIES = {
    'mmdet': """
        atss/atss_r50_fpn_1x_coco autoassign/autoassign_r50-caffe_fpn_1x_coco boxinst/boxinst_r50_fpn_ms-90k_coco
        carafe/faster-rcnn_r50_fpn-carafe_1x_coco cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco
        cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco centernet/centernet_r18_8xb16-crop512-140e_coco
        condinst/condinst_r50_fpn_ms-poly-90k_coco_instance conditional_detr/conditional-detr_r50_8xb2-50e_coco
        dab_detr/dab-detr_r50_8xb2-50e_coco dcn/faster-rcnn_r50_fpn_dpool_1x_coco
        dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco ddod/ddod_r50_fpn_1x_coco
        deformable_detr/deformable-detr_r50_16xb2-50e_coco detectors/cascade-rcnn_r50-sac_1x_coco
        detr/detr_r50_8xb2-150e_coco dino/dino-4scale_r50_8xb2-12e_coco double_heads/dh-faster-rcnn_r50_fpn_1x_coco
        dyhead/atss_r50_fpn_dyhead_1x_coco dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco
        faster_rcnn/faster-rcnn_r50_fpn_1x_coco faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco
        faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco fcos/fcos_r50-caffe_fpn_gn-head_1x_coco
        foveabox/fovea_r50_fpn_4xb4-1x_coco fpg/faster-rcnn_r50_fpg_crop640-50e_coco
        free_anchor/freeanchor_r50_fpn_1x_coco fsaf/fsaf_r50_fpn_1x_coco gfl/gfl_r50_fpn_1x_coco
        ghm/retinanet_r50_fpn_ghm-1x_coco grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco
        groie/faste-rcnn_r50_fpn_groie_1x_coco guided_anchoring/ga-retinanet_r50_fpn_1x_coco
        hrnet/faster-rcnn_hrnetv2p-w18-1x_coco htc/htc_r50_fpn_1x_coco lad/lad_r50-paa-r101_fpn_2xb8_coco_1x
        ld/ld_r18-gflv1-r101_fpn_1x_coco libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco
        mask2former/mask2former_r50_8xb2-lsj-50e_coco mask_rcnn/mask-rcnn_r50_fpn_1x_coco
        maskformer/maskformer_r50_ms-16xb1-75e_coco ms_rcnn/ms-rcnn_r50_fpn_1x_coco
        nas_fcos/nas-fcos_r50-caffe_fpn_fcoshead-gn-head_4xb4-1x_coco nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco
        paa/paa_r50_fpn_1x_coco pafpn/faster-rcnn_r50_pafpn_1x_coco panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco
        pisa/faster-rcnn_r50_fpn_pisa_1x_coco point_rend/point-rend_r50-caffe_fpn_ms-1x_coco
        pvt/retinanet_pvt-t_fpn_1x_coco queryinst/queryinst_r50_fpn_1x_coco
        reppoints/reppoints-moment_r50_fpn_1x_coco retinanet/retinanet_r50_fpn_1x_coco rpn/rpn_r50_fpn_1x_coco
        rtmdet/rtmdet_tiny_8xb32-300e_coco rtmdet/rtmdet-ins_tiny_8xb32-300e_coco
        sabl/sabl-faster-rcnn_r50_fpn_1x_coco scnet/scnet_r50_fpn_1x_coco solo/solo_r50_fpn_1x_coco
        solov2/solov2_r50_fpn_1x_coco sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco
        tood/tood_r50_fpn_1x_coco tridentnet/tridentnet_r50-caffe_1x_coco vfnet/vfnet_r50_fpn_1x_coco
        yolact/yolact_r50_1xb8-55e_coco yolo/yolov3_mobilenetv2_8xb24-320-300e_coco yolof/yolof_r50-c5_8xb8-1x_coco
        yolox/yolox_s_8xb8-300e_coco
    """,
    'mmseg': """
        ann/ann_r50-d8_4xb4-80k_ade20k-512x512 apcnet/apcnet_r50-d8_4xb4-80k_ade20k-512x512
        ccnet/ccnet_r50-d8_4xb4-80k_ade20k-512x512 convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512
        danet/danet_r50-d8_4xb4-80k_ade20k-512x512 deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512
        deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512 dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512
        dnlnet/dnl_r50-d8_4xb4-80k_ade20k-512x512 emanet/emanet_r50-d8_4xb2-80k_cityscapes-769x769
        encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512 fastfcn/fastfcn_r50-d32_jpu_aspp_4xb4-80k_ade20k-512x512
        fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512 gcnet/gcnet_r50-d8_4xb4-80k_ade20k-512x512
        hrnet/fcn_hr18s_4xb4-80k_ade20k-512x512 isanet/isanet_r50-d8_4xb4-80k_ade20k-512x512
        knet/knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512 mask2former/mask2former_r50_8xb2-160k_ade20k-512x512
        maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512
        mobilenet_v3/mobilenet-v3-d8-s_lraspp_4xb4-320k_cityscapes-512x1024
        nonlocal_net/nonlocal_r50-d8_4xb4-80k_ade20k-512x512 ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512
        point_rend/pointrend_r50_4xb4-160k_ade20k-512x512 psanet/psanet_r50-d8_4xb4-80k_ade20k-512x512
        pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512 segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512
        segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512 sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512
        swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512
        twins/twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512 upernet/upernet_r50_4xb4-80k_ade20k-512x512
    """,
    'mmpretrain': """
        convmixer/convmixer-768-32_10xb64_in1k convnext/convnext-tiny_32xb128_in1k cspnet/cspresnet50_8xb32_in1k
        csra/resnet101-csra_1xb16_voc07-448px davit/davit-tiny_4xb256_in1k densenet/densenet121_4xb256_in1k
        edgenext/edgenext-small_8xb256_in1k efficientnet/efficientnet-b0_8xb32_in1k hornet/hornet-tiny_8xb128_in1k
        mobilenet_v2/mobilenet-v2_8xb32_in1k mobilenet_v3/mobilenet-v3-small_8xb128_in1k
        mobileone/mobileone-s0_8xb32_in1k mobilevit/mobilevit-small_8xb128_in1k poolformer/poolformer-m36_32xb128_in1k
        regnet/regnetx-12gf_8xb64_in1k repvgg/repvgg-A0_8xb32_in1k res2net/res2net50-w14-s8_8xb32_in1k
        resnest/resnest50_32xb64_in1k resnet/resnet50_8xb32_in1k resnet/resnet50_8xb8_cub
        resnet/resnet18_8xb16_cifar10 resnext/resnext50-32x4d_8xb32_in1k seresnet/seresnet50_8xb32_in1k
        shufflenet_v2/shufflenet-v2-1x_16xb64_in1k swin_transformer/swin-tiny_16xb64_in1k van/van-tiny_8xb128_in1k
        wrn/wide-resnet50_8xb32_in1k
    """,
}
QUICK = {
    'mmdet': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco centernet/centernet_r18_8xb16-crop512-140e_coco '
    'yolox/yolox_s_8xb8-300e_coco yolo/yolov3_mobilenetv2_8xb24-320-300e_coco '
    'detr/detr_r50_8xb2-150e_coco',
    'mmseg': 'dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512 segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512 '
    'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512',
    'mmpretrain': 'resnet/resnet50_8xb32_in1k resnet/resnet18_8xb16_cifar10 swin_transformer/swin-tiny_16xb64_in1k',
}
"""Those that the default suite runs, with our backbone alone."""
